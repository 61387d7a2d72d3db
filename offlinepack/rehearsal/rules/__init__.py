"""Static rules of the rehearsal, one module for each rule."""
