package dm

import "strconv"

// Path is a device-mapper device's node, /dev/dm-MINOR, which the kernel itself makes in
// devtmpfs at the first Load, before it returns. Minors are used again: [OpenDevice]
// opens the node and compares the number.
func Path(dev Number) string { return "/dev/dm-" + strconv.FormatUint(uint64(dev.Minor), 10) }
