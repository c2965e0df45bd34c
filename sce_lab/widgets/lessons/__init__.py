"""What the lessons show: one page each, on the kit alone."""
