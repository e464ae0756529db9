"""Backups: a folder that a whole house can be restored from, made while a proxy serves.

    DIR/backup.json                     what the backup is: written last, by rename, so it names whole things only
    DIR/.pixie-backup                   marks the folder as ours, and is locked while it is written to
    DIR/images/2026/11/21/req_…/        images and request.json as in storage; never changed, so each is copied once
    DIR/20261121T145122Z-5f3a/          what one run wrote: the next one writes its own, and then removes this
        pixie.db  spool/  SHA256SUMS    the index at one moment, the calls in the spool, the sums of all files

`record` says what the files of a backup say, `making` writes one, `restoring` checks one and brings it back. `files`
copies and sums.

Index first, then the spool, then storage: that is against the way that images take. So an image that was acknowledged
before is found in one of the two, every row of the index copy finds its file, and what is younger than the index copy
is left for the next backup. What changed under our hands meanwhile is noted in the copy.
"""
