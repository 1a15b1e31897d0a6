"""What a selection is made of: expressions, rules, the split, the folder, and how two of them differ."""
