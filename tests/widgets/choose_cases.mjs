// Reads cases from standard input and prints what choose.js makes of each; run by test_choose.py with choose.js before it.
import { readFileSync } from "node:fs";

const answers = JSON.parse(readFileSync(0, "utf-8")).map(({ q, k, rank, dim, indexRank, ...s }) => {
  const result = choose(q, k, rank, s);
  const spans = [];
  for (let token = 0; token < s.tokens; token++) {
    const own = [];
    result.spans(token, (from, to) => own.push([from, to]));
    spans.push(own);
  }
  let traced = 0;
  for (let token = 0; token < s.tokens; token += s.queryBlock)
    result.trace(token, ({ scored }) => (traced += scored.length));
  return { kept: result.kept, scorings: result.scorings, spans, traced, costs: costs(result, s, dim, indexRank) };
});
console.log(JSON.stringify(answers));
