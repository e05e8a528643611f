/*
 * outside.c: files that must not travel with what they protect; see outside.h.
 */
#include "postgres.h"

#include <sys/stat.h>

#include "core/outside.h"
#include "miscadmin.h"

bool
eduai_core_in_data_directory(const char *resolved)
{
	char *path = pstrdup(resolved);
	struct stat data;
	struct stat above;
	char *slash;

	if (stat(DataDir, &data) != 0)
		return true;
	while ((slash = strrchr(path, '/')) != NULL && slash != path)
	{
		*slash = '\0';
		if (stat(path, &above) != 0 || (above.st_dev == data.st_dev && above.st_ino == data.st_ino))
			return true;
	}
	return false;
}
