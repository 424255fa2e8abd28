package schema

// PlaceMB is the memory of one place: the unit in which a manager's capacity is counted. CLI, `up --capacity`.
const PlaceMB = 128

// Places is how many places an environment of a function with this memory takes: ceil(memoryMB/128), at least 1.
func Places(memoryMB int) int { return max(1, (memoryMB+PlaceMB-1)/PlaceMB) }

// VersionKey is the [Key] of calls of version v of function rec; tenant counts only where the function is per tenant.
func VersionKey(rec *FunctionRecord, v *VersionRecord, tenant string) Key {
	if !rec.PerTenant {
		tenant = ""
	}
	return Key{
		FunctionID: rec.ID, Version: v.Version, CodeSHA256: v.CodeSHA256, ConfigRevision: v.ConfigRevision, Tenant: tenant,
	}
}

// Find is the version that a qualifier names by itself: "" and [Latest] the unpublished code, else a published number.
// An alias is not found here: it is drawn for each call. The result points into r, which caches share: read it only.
func (r *FunctionRecord) Find(qualifier string) (*VersionRecord, bool) {
	if qualifier == "" || qualifier == Latest {
		return &r.Latest, true
	}
	for i := range r.Versions {
		if r.Versions[i].Version == qualifier {
			return &r.Versions[i], true
		}
	}
	return nil, false
}
