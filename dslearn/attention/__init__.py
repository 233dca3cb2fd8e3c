"""Attention: dense, and sparse over key blocks that each query chooses."""

from dslearn.attention.cache import AttentionCache
from dslearn.attention.dense import dense_attention
from dslearn.attention.indexer import TokenIndexer
from dslearn.attention.layer import DenseAttention, DynamicSparseAttention
from dslearn.attention.loss import dense_block_mass, selector_loss
from dslearn.attention.rotary import rotate
from dslearn.attention.select import own_blocks, select_blocks
from dslearn.attention.sparse import block_sparse_attention
from dslearn.attention.tree import BlockTree, search, split_signs

__all__ = [
    "AttentionCache",
    "BlockTree",
    "DenseAttention",
    "DynamicSparseAttention",
    "TokenIndexer",
    "block_sparse_attention",
    "dense_attention",
    "dense_block_mass",
    "own_blocks",
    "rotate",
    "search",
    "select_blocks",
    "selector_loss",
    "split_signs",
]
