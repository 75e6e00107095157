"""Objects in a bucket of Amazon S3, or of a store that speaks its protocol.

    driver      what `storage/driver.py` promises, each method in a few requests
    settings    the section `storage.s3` of the configuration
    client      boto3 clients and threads, made once in each process
    errors      what botocore raises, as errors of a driver
    bucket      one request each, on keys below the root directory
    multipart   an object uploaded in parts, several at once
    reading     the reader: one request for a small object, one stream for a large one
    growing     which chunks make up a growing object, and the state that names them
    writing     the writer of a growing object
    publishing  chunks into a finished object: copied by the store, or streamed through this node
    workshop    what the writers of a process share, and what they have learnt of the store
    memory      how much of the uploads is held in memory
    collecting  what may be removed a little later, in batches
    deleting    trees, and uploads that nobody completed
    listing     the names below a prefix, in the order of the contract
    swapping    compare-and-swap, by what the store can do of it
    examining   what `registry doctor` asks of a store

Correctness rests on this of the store, and on nothing more: a PUT, a copy and the completion of a
multipart upload are atomic and seen at once by whoever asks afterwards, in listings too.
"""
