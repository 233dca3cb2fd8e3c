"""``dslearn demo moe``: which experts take which bytes of a text, in four networks that differ in their balance."""
