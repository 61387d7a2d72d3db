"""The target side: copied as plain files into each bundle. Standard library, Python 3.6 and newer."""
