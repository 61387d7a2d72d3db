"""What tests share: wheels, bundles, served indexes, runners."""
