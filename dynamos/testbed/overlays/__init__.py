"""Container overlays: how containers at several sites come to share a network, and how that goes away again."""
