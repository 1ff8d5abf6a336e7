"""What runs on the device: the classifier as C99, and as a module for old Pythons."""
