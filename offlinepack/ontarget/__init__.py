"""Install a bundle on the target machine. Standard library only, Python 3.6 or newer; every bundle contains a copy.

Read the verification half first. It runs before anything is written, and imports nothing of the rest:

install           check the code itself against SHA256SUMS, and load only the checked bytes
errors            findings, their sentences, exit codes
paths             paths that a bundle may contain
manifest          manifest.json: its format, its only canonical form
archive           zip archives, where every byte belongs to one member
wheel_model       the values of a checked wheel; names and versions
destinations      the files that a wheel would write, and clashes between wheels
wheel             wheels: framing, names, metadata, RECORD, entry points
verify            the folder of a bundle: every listed file, and no other
ed25519           RFC 8032
signature         signatures of OpenSSH, the keys that may sign, and those that this machine requires

Then the installation, from its start to its parts: command, report, transaction, plan, interpreter, target_selection,
generations, preflight, populate, venv, distributions, reuse, fast_installer, unpack, by_pip, files, zipapp.
"""
