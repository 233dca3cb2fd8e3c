"""What the course claims about speed, memory and quality, measured beside the alternatives."""

from benchmarks.allocator import steady

steady()  # before torch, which reads its switch once
