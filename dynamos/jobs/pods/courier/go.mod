module dynamos/courier

go 1.22
