"""Puts the application on the path and starts it; everything else lives beside it."""
