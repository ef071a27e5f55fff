"""The demo: 137 seasons of baseball, and a model that keeps up with the game."""
