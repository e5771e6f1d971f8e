/* Counts how often the interpreter's allocators are asked for memory; put in place and read by allocations.py. */

#include <stddef.h>

/* As CPython declares them, <https://docs.python.org/3/c-api/memory.html>. */
typedef struct {
    void *ctx;
    void *(*malloc)(void *ctx, size_t size);
    void *(*calloc)(void *ctx, size_t count, size_t size);
    void *(*realloc)(void *ctx, void *old, size_t size);
    void (*free)(void *ctx, void *old);
} PyMemAllocatorEx;

void PyMem_GetAllocator(int domain, PyMemAllocatorEx *allocator);
void PyMem_SetAllocator(int domain, PyMemAllocatorEx *allocator);

enum { DOMAINS = 3 }; /* raw, mem, object */

static PyMemAllocatorEx below[DOMAINS];
static unsigned long long allocated[DOMAINS], resized[DOMAINS];

static int domain_of(void *ctx) { return (int)((PyMemAllocatorEx *)ctx - below); }

static void *counted_malloc(void *ctx, size_t size)
{
    int domain = domain_of(ctx);
    allocated[domain]++;
    return below[domain].malloc(below[domain].ctx, size);
}

static void *counted_calloc(void *ctx, size_t count, size_t size)
{
    int domain = domain_of(ctx);
    allocated[domain]++;
    return below[domain].calloc(below[domain].ctx, count, size);
}

static void *counted_realloc(void *ctx, void *old, size_t size)
{
    int domain = domain_of(ctx);
    *(old ? &resized[domain] : &allocated[domain]) += 1;
    return below[domain].realloc(below[domain].ctx, old, size);
}

static void passed_free(void *ctx, void *old)
{
    int domain = domain_of(ctx);
    below[domain].free(below[domain].ctx, old);
}

void start_counting(void)
{
    for (int domain = 0; domain < DOMAINS; domain++) {
        PyMem_GetAllocator(domain, &below[domain]);
        PyMemAllocatorEx counting = {
            &below[domain], counted_malloc, counted_calloc, counted_realloc, passed_free,
        };
        PyMem_SetAllocator(domain, &counting);
    }
}

unsigned long long allocations(int domain) { return allocated[domain]; }
unsigned long long resizes(int domain) { return resized[domain]; }
