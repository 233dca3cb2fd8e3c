"""What the course claims about speed, memory and quality, measured beside the alternatives."""
