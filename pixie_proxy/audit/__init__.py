"""Audits: what is stored held against what is known of it. `verify` finds where they differ, `rebuild` mends the index.

    contents    one request's folder in storage, as it is: files, manifest, state
    judging     a folder against what the index says of it: pure
    verify      every folder, every row, each doubt looked at twice; and what can be mended safely
    spools      what dead processes left in the spool
    rebuild     the index from storage: adds, never changes, never deletes

Storage and index are never looked at in one instant, and calls, changes and purges go on meanwhile. So whatever is
found is looked at once more, in an order in which nothing can move unseen, and counts only if it is found again.
"""
