/* A stand-in for NVIDIA's libnvidia-ml.so.1, of our own make: what the real pynvml calls, on GPUs that a test sets up.
 *
 * Its world is the file that FAKE_NVML names, mapped by this library and by the test (tests/fakenvml.py mirrors the
 * structures below); without that, FAKE_NVML_GPUS of them that draw 350 W, each cut into FAKE_NVML_MIG instances.
 * -DOLD_DRIVER leaves out what drivers before 510 lack. It also keeps account: calls by name, what is held (users, event
 * sets, GPM samples), and uses that a real driver would not forgive.
 */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { GPUS = 8, SLOTS = 7, FAULTS = 16, CALLS = 64, XIDS = 64, REASONS = 9, PARTS = 4 };
enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TIMEOUT = 10, LOST = 15 };
enum { EMPTY = 0, THERE = 1, GAP = 2 };

typedef struct {
    uint32_t state, gi, slices, multiprocessors, serial, named;
    uint64_t memory_mib, used_bytes;
    double percent[PARTS];
    char uuid[80];
} slot_t;

typedef struct {
    uint32_t lost, meters_energy, mig, gpm, counter_bits, xids_told;
    double watts, joules, since, tick; /* joules at `since`; since 0: the meter stands still */
    double percent[PARTS];
    uint64_t throttle_ns[REASONS];
    uint64_t pcie_tx, pcie_rx, nvlink_tx_kib, nvlink_rx_kib, ecc;
    uint32_t xid_count, xids[XIDS];
    slot_t slots[SLOTS];
} gpu_t;

typedef struct {
    char function[48]; /* a C function, or a field as "186" or "186/1" (with its scope) */
    int32_t gpu, code; /* gpu -1: of all */
} fault_t;

typedef struct {
    char function[48];
    uint64_t count;
} call_t;

typedef struct {
    uint32_t count, hang;
    int32_t users, event_sets, samples, samples_ever, stale_handles, short_windows, mixed_samples;
    fault_t faults[FAULTS];
    call_t calls[CALLS];
    gpu_t gpus[GPUS];
} world_t;

static world_t *world;
static int generation;
static char handles[2][GPUS][1 + SLOTS]; /* only their addresses matter; a new set after every init */

typedef struct {
    double at;
    int gpu, slot;
    uint32_t serial;
    double percent[PARTS];
} sample_t;

typedef struct {
    int gpus[GPUS];
} event_set_t;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int fault_of(const char *function, int gpu) {
    for (int i = 0; i < FAULTS; i++) {
        const fault_t *fault = &world->faults[i];
        if (fault->code && !strcmp(fault->function, function) && (fault->gpu < 0 || fault->gpu == gpu))
            return fault->code;
    }
    return OK;
}

/* Every call passes here: it is counted, it hangs while the world says so, and it fails if it is to. */
static int enter(const char *function, int gpu) {
    for (int i = 0; i < CALLS; i++) {
        if (!world->calls[i].function[0])
            strncpy(world->calls[i].function, function, sizeof world->calls[i].function - 1);
        if (!strcmp(world->calls[i].function, function)) {
            __sync_fetch_and_add(&world->calls[i].count, 1);
            break;
        }
    }
    while (*(volatile uint32_t *)&world->hang)
        usleep(2000);
    int code = fault_of(function, gpu);
    if (code)
        return code;
    if (world->users <= 0)
        return UNINITIALIZED;
    return gpu >= 0 && world->gpus[gpu].lost ? LOST : OK;
}

static int find(const void *handle, int *gpu, int *slot) {
    for (int g = 0; g < 2; g++) {
        ptrdiff_t place = (const char *)handle - &handles[g][0][0];
        if (place >= 0 && place < (ptrdiff_t)sizeof handles[g]) {
            *gpu = place / (1 + SLOTS);
            *slot = place % (1 + SLOTS) - 1;
            if (g == generation % 2 && world->users > 0)
                return OK;
        }
    }
    world->stale_handles++;
    return INVALID;
}

#define ENTER(handle)                                                                                                  \
    int gpu, slot, code = find(handle, &gpu, &slot);                                                                   \
    if (code || (code = enter(__func__, gpu)))                                                                         \
        return code;                                                                                                   \
    gpu_t *card = &world->gpus[gpu];                                                                                   \
    (void)card

#define WHOLE_ONLY                                                                                                     \
    if (slot >= 0)                                                                                                     \
    return NOT_SUPPORTED

#define MIG_ONLY                                                                                                       \
    if (slot < 0)                                                                                                      \
    return INVALID

/* -- the library and its devices ---------------------------------------------------------------------------------- */

static world_t *open_world(const char *path) {
    if (path) {
        int file = open(path, O_RDWR);
        world_t *found = mmap(NULL, sizeof *found, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
        return found;
    }
    world_t *made = calloc(1, sizeof *made);
    made->count = atoi(getenv("FAKE_NVML_GPUS"));
    const char *instances = getenv("FAKE_NVML_MIG");
    for (unsigned i = 0; i < made->count; i++) {
        gpu_t *gpu = &made->gpus[i];
        *gpu = (gpu_t){.meters_energy = 1, .gpm = 1, .watts = 350, .since = now(), .tick = 0.1, .mig = instances != NULL};
        for (int place = 0; instances && place < atoi(instances); place++) {
            slot_t *slot = &gpu->slots[place];
            *slot = (slot_t){.state = THERE, .gi = place + 7, .slices = 1, .multiprocessors = 16, .serial = 1, .named = 1,
                             .memory_mib = 10240, .used_bytes = 1 << 30};
            snprintf(slot->uuid, sizeof slot->uuid, "MIG-%u-%d", i, place);
        }
    }
    return made;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!world)
        world = open_world(getenv("FAKE_NVML"));
    int users = world->users;
    world->users = 1; /* so that enter() lets it pass */
    int code = enter(__func__, -1);
    world->users = users;
    if (code)
        return code;
    if (!world->users++)
        generation++;
    return OK;
}

int nvmlShutdown(void) {
    int code = enter(__func__, -1);
    if (!code)
        world->users--;
    return code;
}

static int text(const char *what, char *out, unsigned size) {
    snprintf(out, size, "%s", what);
    return OK;
}

int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    int code = enter(__func__, -1);
    return code ? code : text("580.95.05", out, size);
}

int nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    int code = enter(__func__, -1);
    return code ? code : text("13.580.95.05", out, size);
}

const char *nvmlErrorString(int code) {
    static char out[32];
    snprintf(out, sizeof out, "code %d", code);
    return out;
}

int nvmlDeviceGetCount_v2(unsigned *out) {
    int code = enter(__func__, -1);
    *out = world->count;
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    if (index >= world->count)
        return INVALID;
    *out = &handles[generation % 2][index][0];
    return enter(__func__, index);
}

int nvmlDeviceGetUUID(void *handle, char *out, unsigned size) {
    ENTER(handle);
    char own[48];
    snprintf(own, sizeof own, "GPU-%d", gpu);
    return text(slot < 0 ? own : card->slots[slot].uuid, out, size);
}

int nvmlDeviceGetName(void *handle, char *out, unsigned size) {
    ENTER(handle);
    char name[96] = "NVIDIA Test 80GB";
    const slot_t *mig = slot < 0 ? NULL : &card->slots[slot];
    if (mig && mig->named)
        snprintf(name, sizeof name, "NVIDIA Test 80GB MIG %ug.%lugb", mig->slices, (mig->memory_mib + 512) / 1024);
    return text(name, out, size);
}

/* -- readings ----------------------------------------------------------------------------------------------------- */

static double joules(const gpu_t *card) {
    if (card->since <= 0)
        return card->joules;
    double ticks = (double)(uint64_t)((now() - card->since) / card->tick);
    return card->joules + card->watts * ticks * card->tick;
}

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *out) {
    ENTER(handle);
    WHOLE_ONLY;
    *out = joules(card) * 1000;
    return card->meters_energy ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *out) {
    ENTER(handle);
    WHOLE_ONLY;
    *out = card->watts * 1000;
    return OK;
}

typedef struct {
    unsigned gpu, memory;
} rates_t;

int nvmlDeviceGetUtilizationRates(void *handle, rates_t *out) {
    ENTER(handle);
    out->gpu = card->percent[0];
    return slot >= 0 || card->mig ? NOT_SUPPORTED : OK;
}

typedef struct {
    unsigned long long total, free, used;
} memory_t;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} memory_v2_t;

static const unsigned long long TOTAL = 81559ULL << 20, USED = 40ULL << 30, RESERVED = 479ULL << 20;

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *out) {
    ENTER(handle);
    out->total = slot < 0 ? TOTAL : card->slots[slot].memory_mib << 20;
    out->used = slot < 0 ? USED + RESERVED : card->slots[slot].used_bytes;
    out->free = out->total - out->used;
    return OK;
}

int nvmlDeviceGetTemperature(void *handle, unsigned sensor, unsigned *out) {
    ENTER(handle);
    (void)sensor;
    *out = 55;
    return OK;
}

#ifndef OLD_DRIVER
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory_v2_t *out) {
    ENTER(handle);
    out->total = slot < 0 ? TOTAL : card->slots[slot].memory_mib << 20;
    out->used = slot < 0 ? USED : card->slots[slot].used_bytes;
    return out->version == 0x02000028 ? OK : INVALID;
}

typedef struct {
    unsigned version, sensor;
    int celsius;
} temperature_t;

int nvmlDeviceGetTemperatureV(void *handle, temperature_t *out) {
    ENTER(handle);
    out->celsius = 61;
    return OK;
}
#endif

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *out) {
    ENTER(handle);
    *out = 700000;
    return OK;
}

int nvmlDeviceGetClockInfo(void *handle, unsigned clock, unsigned *out) {
    ENTER(handle);
    *out = clock == 1 ? 1980 : clock == 2 ? 2619 : 0; /* SM, memory; MHz */
    return OK;
}

int nvmlDeviceGetTotalEccErrors(void *handle, unsigned kind, unsigned since, unsigned long long *out) {
    ENTER(handle);
    *out = card->ecc;
    return kind == 1 && since == 0 ? OK : INVALID; /* uncorrected, volatile */
}

/* -- field values ------------------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t id, scope;
    int64_t timestamp, latency;
    uint32_t type, code;
    union {
        double d;
        unsigned ui;
        unsigned long long ull;
    } value;
} field_t;

static int field_u32(field_t *field, unsigned value) {
    field->type = 1;
    field->value.ui = value;
    return OK;
}

static int field_u64(field_t *field, unsigned long long value) {
    field->type = 3;
    field->value.ull = value;
    return OK;
}

static int bytes(field_t *field, const gpu_t *card, uint64_t value) {
    return card->counter_bits == 32 ? field_u32(field, value) : field_u64(field, value);
}

static int read_field(const gpu_t *card, field_t *field) {
    uint32_t id = field->id, all = 0xFFFFFFFF;
    if (id == 185 || id == 186) /* average, instant; the module has its CPU on top */
        return field->scope > 1 ? INVALID : field_u32(field, 1000 * (card->watts + (id == 186) + 100 * field->scope));
    if (id == 82)
        return field_u32(field, 71);
    if (id >= 74 && id <= 79)
        return field_u64(field, card->throttle_ns[id - 74]);
    if (id >= 269 && id <= 271)
        return field_u64(field, card->throttle_ns[id - 269 + 6]);
    if (id == 197 || id == 198)
        return bytes(field, card, id == 197 ? card->pcie_tx : card->pcie_rx);
    if (id == 138 || id == 139)
        return field->scope == all ? field_u64(field, id == 138 ? card->nvlink_tx_kib : card->nvlink_rx_kib) : INVALID;
    if (id == 202 || id == 204)
        return field->scope == all ? field_u64(field, 1024 * (id == 202 ? card->nvlink_tx_kib : card->nvlink_rx_kib))
                                   : INVALID;
    return NOT_SUPPORTED;
}

int nvmlDeviceGetFieldValues(void *handle, int count, field_t *fields) {
    ENTER(handle);
    WHOLE_ONLY;
    int worked = 0;
    for (int i = 0; i < count; i++) {
        char plain[24], scoped[40];
        snprintf(plain, sizeof plain, "%u", fields[i].id);
        snprintf(scoped, sizeof scoped, "%u/%u", fields[i].id, fields[i].scope);
        int failure = fault_of(plain, gpu) ? fault_of(plain, gpu) : fault_of(scoped, gpu);
        fields[i].code = failure ? (uint32_t)failure : (uint32_t)read_field(card, &fields[i]);
        worked += !fields[i].code;
    }
    return worked || !count ? OK : (int)fields[0].code; /* the call succeeds when any field did */
}

/* -- GPM ---------------------------------------------------------------------------------------------------------- */

#ifndef OLD_DRIVER
typedef struct {
    unsigned version, supported;
} support_t;

int nvmlGpmQueryDeviceSupport(void *handle, support_t *out) {
    ENTER(handle);
    out->supported = card->gpm;
    return OK;
}

int nvmlGpmSampleAlloc(sample_t **out) {
    int code = enter(__func__, -1);
    if (code)
        return code;
    *out = calloc(1, sizeof **out);
    world->samples++;
    world->samples_ever++;
    return OK;
}

int nvmlGpmSampleFree(sample_t *sample) {
    int code = enter(__func__, -1);
    if (code)
        return code;
    free(sample);
    world->samples--;
    return OK;
}

static int take(sample_t *sample, int gpu, int slot) {
    const gpu_t *card = &world->gpus[gpu];
    sample->at = now();
    sample->gpu = gpu;
    sample->slot = slot;
    sample->serial = slot < 0 ? 0 : card->slots[slot].serial;
    memcpy(sample->percent, slot < 0 ? card->percent : card->slots[slot].percent, sizeof sample->percent);
    return OK;
}

int nvmlGpmSampleGet(void *handle, sample_t *sample) {
    ENTER(handle);
    return card->mig ? NOT_SUPPORTED : take(sample, gpu, -1);
}

int nvmlGpmMigSampleGet(void *handle, unsigned gi, sample_t *sample) {
    ENTER(handle);
    for (int i = 0; i < SLOTS; i++)
        if (card->slots[i].state == THERE && card->slots[i].gi == gi)
            return take(sample, gpu, i);
    return INVALID;
}

typedef struct {
    unsigned id, code;
    double value;
    const char *info[3];
} metric_t;

typedef struct {
    unsigned version, count;
    sample_t *first, *second;
    metric_t metrics[];
} query_t;

int nvmlGpmMetricsGet(query_t *query) {
    int code = enter(__func__, -1);
    if (code)
        return code;
    const sample_t *a = query->first, *b = query->second;
    world->mixed_samples += a->gpu != b->gpu || a->slot != b->slot || a->serial != b->serial;
    world->short_windows += b->at - a->at < 0.099;
    for (unsigned i = 0; i < query->count; i++) {
        static const unsigned IDS[PARTS] = {1, 2, 5, 10}; /* graphics, SM, any tensor, DRAM */
        query->metrics[i].code = NOT_SUPPORTED;
        for (int part = 0; part < PARTS; part++)
            if (IDS[part] == query->metrics[i].id) {
                query->metrics[i].code = OK;
                query->metrics[i].value = b->percent[part];
            }
    }
    return query->version == 1 ? OK : INVALID;
}
#endif

/* -- events ------------------------------------------------------------------------------------------------------- */

typedef struct {
    void *device;
    unsigned long long type, data;
    unsigned gi, ci;
} event_t;

int nvmlEventSetCreate(event_set_t **out) {
    int code = enter(__func__, -1);
    if (code)
        return code;
    *out = calloc(1, sizeof **out);
    world->event_sets++;
    return OK;
}

int nvmlDeviceRegisterEvents(void *handle, unsigned long long types, event_set_t *set) {
    ENTER(handle);
    set->gpus[gpu] = types == 8;
    card->xids_told = card->xid_count; /* what happened before is not told */
    return types == 8 ? OK : NOT_SUPPORTED;
}

int nvmlEventSetWait_v2(event_set_t *set, event_t *out, unsigned milliseconds) {
    int code = enter(__func__, -1);
    if (code)
        return code;
    for (unsigned i = 0; i < world->count; i++) {
        gpu_t *card = &world->gpus[i];
        if (set->gpus[i] && card->xids_told < card->xid_count) {
            *out = (event_t){&handles[generation % 2][i][0], 8, card->xids[card->xids_told++ % XIDS], ~0U, ~0U};
            return OK;
        }
    }
    usleep(1000 * milliseconds);
    return TIMEOUT;
}

int nvmlEventSetFree(event_set_t *set) {
    int code = enter(__func__, -1);
    if (code)
        return code;
    free(set);
    world->event_sets--;
    return OK;
}

/* -- MIG ---------------------------------------------------------------------------------------------------------- */

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    ENTER(handle);
    *current = *pending = card->mig == 1;
    return card->mig == 2 ? NOT_SUPPORTED : OK;
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *out) {
    ENTER(handle);
    *out = SLOTS;
    return OK;
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **out) {
    ENTER(handle);
    if (index >= SLOTS || card->slots[index].state == GAP)
        return INVALID;
    *out = &handles[generation % 2][gpu][1 + index];
    return card->slots[index].state == THERE ? OK : NOT_FOUND;
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *out) {
    ENTER(handle);
    MIG_ONLY;
    *out = card->slots[slot].gi;
    return OK;
}

typedef struct {
    unsigned multiprocessors, copy, decoder, encoder, jpeg, ofa, slices, compute_slices;
    unsigned long long memory_mib;
} attributes_t;

int nvmlDeviceGetAttributes_v2(void *handle, attributes_t *out) {
    ENTER(handle);
    MIG_ONLY;
    memset(out, 0, sizeof *out);
    out->multiprocessors = card->slots[slot].multiprocessors;
    out->slices = out->compute_slices = card->slots[slot].slices;
    out->memory_mib = card->slots[slot].memory_mib;
    return OK;
}
