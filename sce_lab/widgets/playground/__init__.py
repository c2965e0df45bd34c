"""The playground: settings, what they come to, runs, and what can be asked of them."""
