"""The spool: the write-ahead log of money. An image is durable here before its last byte reaches the client.

    <data_dir>/spool/<process id>/lock              held while the process lives
    <data_dir>/spool/<process id>/<request id>/     one folder a call
        call.json                                   who asked for what, while images arrive
        0.part → 0.png, 1.part → 1.png …            renamed once fsynced
        request.json                                the manifest: with it, and the folder fsynced, the call is durable
    <data_dir>/spool/uploads/<process id>/          input images while their call runs

`call` writes one folder, `area` owns them all, `manifest` is what request.json says, `finish` brings a durable call to
storage and index, `recovery` does so for calls whose process died, with what `salvage` finds whole.
"""
