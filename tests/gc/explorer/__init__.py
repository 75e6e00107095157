"""A deterministic explorer: the real nodes and the real collector on one store, in every order there is.

Each request to the store is a point at which another process may run. A seed decides who runs next, how
long requests take, which are answered with an error and take effect much later, which process dies or
is suspended, and how fast everybody's clock goes. After each removal the invariant is checked: of every
acknowledged manifest everything is there.
"""
