package persistence

import "fmt"

// Schema says which version data has and which one this program writes. A number is raised when older
// programs could not read what newer ones write.
type Schema struct {
	Part    string `json:"part"`  // "archive", "snapshots"
	Where   string `json:"where"` // folder or keyspace
	Found   bool   `json:"found"` // false: there is no data yet
	Data    int    `json:"data"`
	Program int    `json:"program"`
}

// Check returns nil when this program may open the data, else what to do.
func (s Schema) Check() error {
	switch {
	case !s.Found || s.Data == s.Program:
		return nil
	case s.Data > s.Program:
		return fmt.Errorf("the data has version %d, this program knows versions up to %d: use the newer program that wrote it", s.Data, s.Program)
	}
	return fmt.Errorf("the data has version %d, this program needs version %d: make a copy of the data, then run `wellhead schema migrate` with the same flags", s.Data, s.Program)
}
