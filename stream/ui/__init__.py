"""The page of the person who is paged: one local web page over `stream.watch`, live.

    app         what is answered: the page, its state, its history, a stream of states
    guard       who is answered: our own page by its own names, reading only
    collector   one thread that reads the state for any number of open pages
    server      listening: address, port, life and death
    address     where a page of this home listens, for `up`, `status` and a second `ui`
    beside      the page as one more child of `headrace up`
    page/       what the browser gets: plain HTML, CSS and ES modules, no build step

Guarantees: nothing here writes to lake, stream or ledger; what came from outside (raw records)
travels as JSON text and is shown as text. Not here: what the state means (`stream.watch`).
"""
