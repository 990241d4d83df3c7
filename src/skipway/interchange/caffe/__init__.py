"""Caffe: .caffemodel, .prototxt, .binaryproto."""
