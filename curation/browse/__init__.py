"""The inspector: a local page that browses a manifest of millions of clips and turns what one sees into a policy."""
