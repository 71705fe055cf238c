"""Programs that proofs run inside hosts. Only the standard library, each in one file: hosts are sent the text."""
