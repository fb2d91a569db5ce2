"""SASL, the server's side: one module a mechanism, each a function of what came and when."""
