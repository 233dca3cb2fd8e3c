"""Chapter 01 to touch: what a trained sparse attention reads, how it writes beside dense, and what it costs."""
