"""What is measured on a large inventory: the filling, and one file for each thing that is looked at."""
