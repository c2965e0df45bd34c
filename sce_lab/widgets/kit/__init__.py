"""What every page stands on: figures and style, background training, controls that more than one page has."""
