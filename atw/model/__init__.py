"""The networks: backbones, the consensus over snippets, and the two together."""
