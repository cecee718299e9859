/* Counts what Python allocates: a hook over the allocators of memory and objects, as PyMem_SetAllocator allows.
 * The interpreter has these functions; its headers are not needed. Both domains are used under the interpreter's lock.
 */
#include <stddef.h>
#include <stdint.h>

typedef struct {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t count, size_t size);
    void *(*realloc)(void *ctx, void *old, size_t size);
    void (*free)(void *ctx, void *old);
} allocator_t;

enum { MEMORY = 1, OBJECTS = 2 };

void PyMem_GetAllocator(int domain, allocator_t *out);
void PyMem_SetAllocator(int domain, allocator_t *in);

static allocator_t inner[3];
uint64_t allocations, allocated_bytes;

static void count(size_t size) {
    allocations++;
    allocated_bytes += size;
}

static void *counted_malloc(void *ctx, size_t size) {
    allocator_t *to = ctx;
    count(size);
    return to->malloc(to->ctx, size);
}

static void *counted_calloc(void *ctx, size_t number, size_t size) {
    allocator_t *to = ctx;
    count(number * size);
    return to->calloc(to->ctx, number, size);
}

static void *counted_realloc(void *ctx, void *old, size_t size) {
    allocator_t *to = ctx;
    count(size);
    return to->realloc(to->ctx, old, size);
}

static void passed_free(void *ctx, void *old) {
    allocator_t *to = ctx;
    to->free(to->ctx, old);
}

void install(void) {
    for (int domain = MEMORY; domain <= OBJECTS; domain++) {
        PyMem_GetAllocator(domain, &inner[domain]);
        allocator_t hook = {&inner[domain], counted_malloc, counted_calloc, counted_realloc, passed_free};
        PyMem_SetAllocator(domain, &hook);
    }
}
