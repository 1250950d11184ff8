/* x */
#include <saga/outbox.h>
