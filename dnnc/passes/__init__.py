"""Rewrites of graphs, one file a pass; `pipeline` is the only ordered list of them."""
