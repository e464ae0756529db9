"""Moving house: a whole collection from one storage to another, beside a running server, stopped and taken up at will.

    walking     both storages side by side, with patience for one that is away
    staging     a call's files on their way, each held against its manifest
    report      what a copy is about to do, and what it has done
    copying     the copy: what is missing is brought, what is there stays, the source is never touched

The manifest goes last, as everywhere: a folder that has one at the destination is whole, so a copy that was killed is
taken up by looking, and keeps no notes of its own.
"""
