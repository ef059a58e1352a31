"""The nouns and laws of the house. Standard library only, no input or output."""
