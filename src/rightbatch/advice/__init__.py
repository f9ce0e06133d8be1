"""Which batch size: what each one costs, and how each one learns."""
