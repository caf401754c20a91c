// Package dockerroot reads what Docker itself keeps about the layers that a storage
// driver holds for it: which image and which container a layer id belongs to. It only
// reads, and takes damage for absence: Docker's files may be empty after a power cut,
// and change while they are read.
//
// The layout is that of Docker 1.10 to 28, below the data root:
// image/DRIVER/{layerdb,imagedb,repositories.json} and containers/. A chain id and a
// cache id are Docker's words: a layer's identity by content, and the id by which the
// driver knows it.
package dockerroot
