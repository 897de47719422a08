"""What is made from the code and stands in the project: the public surface, and the licences of what is installed."""
