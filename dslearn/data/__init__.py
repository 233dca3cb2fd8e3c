"""Where batches come from: text of the standard library, tokenizers, windows of tokens, recall tasks."""

from __future__ import annotations

from dslearn.data.batches import TokenStream
from dslearn.data.encode import cache_folder, encode_documents
from dslearn.data.recall import NeedleTask, RecallBatch, RecallTask, recall_curriculum
from dslearn.data.text import Document, load_documents, split_documents, xz_bits_per_byte
from dslearn.data.tokenizer import BPETokenizer, ByteTokenizer, Tokenizer, load_bpe, train_bpe

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "Document",
    "NeedleTask",
    "RecallBatch",
    "RecallTask",
    "TokenStream",
    "Tokenizer",
    "cache_folder",
    "encode_documents",
    "load_bpe",
    "load_documents",
    "recall_curriculum",
    "split_documents",
    "train_bpe",
    "xz_bits_per_byte",
]
