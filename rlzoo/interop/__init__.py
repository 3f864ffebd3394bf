"""Bridges to other frameworks. Nothing in rlzoo imports them but the command line."""
