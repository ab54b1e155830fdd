// In the place of Alpine's sort plug-in (13 KB compressed), which drags rows of lists with an
// ordering field; no list of ours has one.
