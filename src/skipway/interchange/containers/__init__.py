"""What weight files are packed in: zip, HDF5, pickle and protobuf streams, read within bounds."""
