"""Install a bundle on the target machine. Standard library only, Python 3.6 or newer; every bundle contains a copy.

An auditor reads the verification half first, in this order: install, errors, paths, manifest, archive, wheel_model,
destinations, wheel, verify, ed25519, signature, trust_policy. It runs before anything is written.
The rest: command, report, interpreter, target_selection, generations, plan, preflight, transaction, populate, venv,
distributions, reuse, by_pip, fast_installer, unpack, files, zipapp."""
