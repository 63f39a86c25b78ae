"""Several processes that train one model: who they are, when they join, and by which rule."""
