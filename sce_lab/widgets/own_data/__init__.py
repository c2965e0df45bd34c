"""From a person's file to a model that they can use: bring it, see it, choose, train, read, look, take it home."""
