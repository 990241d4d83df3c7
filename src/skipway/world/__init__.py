"""Several processes that train one network: who they are, and what happens when one is lost."""
