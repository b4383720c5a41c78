"""A scripted server: what it says, how fast, and how it fails is written down beforehand. For lessons and tests."""
