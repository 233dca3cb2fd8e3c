// Reads cases from standard input and prints what route.js makes of each; run by test_expert_load.py with it before.
import { readFileSync } from "node:fs";

const answers = JSON.parse(readFileSync(0, "utf-8")).map((s) => {
  const steps = simulate(s, s.step);
  const { counts, wanted, dropped, rerouted, next } = steps.at(-1);
  return {
    counts: [...counts], wanted: [...wanted], dropped, rerouted,
    bias: [...next.bias], offset: [...next.offset],
    report: report(counts, dropped),
    logits: [...simulatedLogits(s, s.step).subarray(0, 40)],
  };
});
console.log(JSON.stringify(answers));
