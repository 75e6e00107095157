"""OpenTelemetry traces: a span for every request, and below it one for every call of the storage.

    plan     whether there are traces and where they go; knows nothing of OpenTelemetry
    spans    makes and sends them; imported only where there is a plan, for the packages are optional

Nothing of this is in the way of a request that nobody traces: without a plan neither the middleware nor
the recorder is there.
"""
