"""The embedded model: fetched once (``fetch``), served by a child process (``server``, ``child``)."""
